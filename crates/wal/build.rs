//! Tells the linker what an addon of Node needs.

fn main() {
    #[cfg(feature = "node")]
    napi_build::setup();
}
