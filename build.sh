#!/usr/bin/env bash
# Builds everything: packages, protobuf code, the native engine where there is Rust, TypeScript.
set -euo pipefail
cd "$(dirname "$0")"
npm ci
npm run build
