//! The addon: the engine as `src/ts/wal/native_binding.ts` declares it, in the same order. Only here does the engine
//! meet memory of JavaScript. Errors go over as `CODE: message`.

use crate::engine::{BodyPlace, Committed, Entries, Event, Log, Options, ReadPlan};
use crate::error::{ErrorCode, LogError};
use crate::files::RealFiles;
use crate::format::Identity;
use crate::node_append::Gathered;
use napi::bindgen_prelude::*;
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi_derive::napi;
use std::path::PathBuf;
use std::sync::Arc;

/// As in `native_binding.ts`.
#[napi]
pub const BINDING_VERSION: u32 = 3;

#[napi(object)]
pub struct NativeOptions {
    pub folder: String,
    pub identity: Uint8Array,
    pub segment_bytes: u32,
    pub sync: bool,
}

#[napi(object)]
pub struct NativeCorruptRecord {
    pub segment: u32,
    pub offset: u32,
    pub group: Option<u32>,
    pub instance: Option<i64>,
}

#[napi(object)]
pub struct NativeRecovery {
    pub segments: i64,
    pub records: i64,
    pub bytes: i64,
    pub torn_bytes: i64,
    pub corrupt: Vec<NativeCorruptRecord>,
    pub damaged_marks: u32,
    pub elapsed_ms: f64,
}

#[napi(object)]
pub struct NativeStats {
    pub segments: i64,
    pub disk_bytes: i64,
    pub live_bytes: i64,
    pub rewritten_bytes: i64,
    pub syncs: i64,
    pub index_bytes: i64,
}

#[napi(object, object_from_js = false)]
pub struct NativeEntries {
    pub bytes: Buffer,
    pub places: Float64Array,
}

type CommittedArgs = FnArgs<(u32, u32, Option<bool>, Option<String>)>;
/// Weak: it does not keep the process alive, `hold` does until `rest`.
type CommittedFunction = ThreadsafeFunction<CommittedArgs, (), CommittedArgs, Status, false, true>;

fn js_error(error: LogError) -> Error {
    Error::from_reason(error.to_string())
}

#[napi]
pub struct NativeLog {
    log: Arc<Log>,
    committed: Arc<CommittedFunction>,
}

#[napi]
impl NativeLog {
    #[napi]
    pub fn recovery(&self) -> NativeRecovery {
        let recovery = self.log.recovery();
        let corrupt = recovery.corrupt.iter().map(|record| NativeCorruptRecord {
            segment: record.segment,
            offset: record.offset,
            group: record.group,
            instance: record.instance.map(|instance| instance as i64),
        });
        NativeRecovery {
            segments: recovery.segments as i64,
            records: recovery.records as i64,
            bytes: recovery.bytes as i64,
            torn_bytes: recovery.torn_bytes as i64,
            corrupt: corrupt.collect(),
            damaged_marks: recovery.damaged_marks,
            elapsed_ms: recovery.elapsed_ms,
        }
    }

    #[napi]
    pub fn low_on_space(&self) -> bool {
        self.log.low_on_space()
    }

    #[napi]
    pub fn groups(&self) -> Vec<u32> {
        self.log.groups()
    }

    #[napi]
    pub fn bounds(&self, group: u32) -> Vec<i64> {
        self.log.bounds(group).map_or_else(Vec::new, |(first, last)| vec![first as i64, last as i64])
    }

    #[napi]
    pub fn has(&self, group: u32, instance: i64) -> bool {
        self.log.has(group, instance as u64)
    }

    #[napi]
    pub fn state(&self, group: u32, slot: i64) -> Result<Option<Uint8Array>> {
        let body = self.log.state(group, slot as u64).map_err(js_error)?;
        Ok(body.map(Uint8Array::from))
    }

    /// Takes one append or refuses it.
    #[napi(ts_args_type = "keys: Float64Array, records: number, small: Uint8Array, parts: readonly Uint8Array[]")]
    pub fn append(&self, env: Env, keys: &[f64], records: u32, small: &[u8], parts: Array) -> Result<()> {
        let parts = borrow_parts(&env, &parts)?;
        let framed = Gathered::read(keys, records, small, &parts)?;
        match self.log.append(&framed.records()) {
            // The call that is on its way ends this append, too.
            Err(LogError { code: ErrorCode::Poisoned, .. }) => Ok(()),
            result => result.map_err(js_error),
        }
    }

    /// Takes all appends of a turn.
    #[napi(ts_args_type = "keys: Float64Array, records: number, small: Uint8Array, parts: readonly Uint8Array[]")]
    pub fn append_accepted(&self, env: Env, keys: &[f64], records: u32, small: &[u8], parts: Array) -> Result<()> {
        let parts = borrow_parts(&env, &parts)?;
        let framed = Gathered::read(keys, records, small, &parts)?;
        let records = framed.records();
        match self.log.append_accepted(framed.appends(&records)) {
            Err(LogError { code: ErrorCode::Poisoned, .. }) => Ok(()),
            result => result.map_err(js_error),
        }
    }

    #[napi]
    pub fn hold(&self, env: Env) -> Result<()> {
        // SAFETY: the environment is that of this call, and `committed` lives as long as this object.
        check_status!(unsafe { sys::napi_ref_threadsafe_function(env.raw(), self.committed.raw()) })
    }

    #[napi]
    pub fn rest(&self, env: Env) -> Result<()> {
        // SAFETY: as in `hold`.
        check_status!(unsafe { sys::napi_unref_threadsafe_function(env.raw(), self.committed.raw()) })
    }

    #[napi]
    pub fn settle(&self) {
        self.log.settle();
    }

    #[napi]
    pub fn forget_damage(&self) {
        self.log.forget_damage();
    }

    #[napi(ts_return_type = "Buffer | Promise<NativeEntries>")]
    pub fn read_range<'env>(
        &self,
        env: &'env Env,
        group: u32,
        from: i64,
        through: i64,
        bytes_max: f64,
        mut places: Float64ArraySlice,
    ) -> Result<Unknown<'env>> {
        let plan = self.log.plan_read(group, from as u64, through as u64, bytes_max as u64).map_err(js_error)?;
        // SAFETY: the array is the caller's scratch, and nobody else touches it while this call runs.
        let places = unsafe { places.as_mut() };
        if plan.bytes() > CACHED_READ_BYTES_MAX || places.len() < 1 + PLACE_FIELDS * plan.entries() {
            return read_later(env, plan);
        }
        let (mut bytes, value) = new_buffer(env, plan.bytes())?;
        let Some(found) = plan.read_cached(bytes.as_mut()) else { return read_later(env, plan) };
        let found = found.map_err(js_error)?;
        places[0] = found.len() as f64;
        places[1..].iter_mut().zip(flatten(&found)).for_each(|(place, value)| *place = value);
        Ok(value)
    }

    #[napi]
    pub fn truncate(&self, group: u32, before: i64) {
        self.log.truncate(group, before as u64);
    }

    #[napi]
    pub fn stats(&self) -> NativeStats {
        let stats = self.log.stats();
        NativeStats {
            segments: stats.segments as i64,
            disk_bytes: stats.disk_bytes as i64,
            live_bytes: stats.live_bytes as i64,
            rewritten_bytes: stats.rewritten_bytes as i64,
            syncs: stats.syncs as i64,
            index_bytes: stats.index_bytes as i64,
        }
    }

    #[napi(ts_return_type = "Promise<void>")]
    pub fn close(&self) -> AsyncTask<Close> {
        AsyncTask::new(Close { log: Arc::clone(&self.log) })
    }
}

/// More is read on another thread, so that checksums and copies do not hold up the event loop.
const CACHED_READ_BYTES_MAX: usize = 1024 * 1024;
/// Instance, start and length of a body.
const PLACE_FIELDS: usize = 3;

/// A promise of what another thread reads.
fn read_later(env: &Env, plan: ReadPlan) -> Result<Unknown<'_>> {
    // SAFETY: the value is of this call.
    unsafe {
        let promise = ToNapiValue::to_napi_value(env.raw(), AsyncTask::new(Read { plan }))?;
        Ok(Unknown::from_raw_unchecked(env.raw(), promise))
    }
}

/// A Buffer, and its bytes for the length of the call that makes it.
fn new_buffer<'env>(env: &'env Env, bytes: usize) -> Result<(BufferBytes, Unknown<'env>)> {
    let (mut data, mut value) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: the value is of this call.
    let value = unsafe {
        check_status!(sys::napi_create_buffer(env.raw(), bytes, &mut data, &mut value))?;
        Unknown::from_raw_unchecked(env.raw(), value)
    };
    Ok((BufferBytes { data: data.cast(), bytes }, value))
}

/// The bytes of a Buffer that only the call knows which made it.
struct BufferBytes {
    data: *mut u8,
    bytes: usize,
}

impl BufferBytes {
    fn as_mut(&mut self) -> &mut [u8] {
        if self.data.is_null() {
            return &mut [];
        }
        // SAFETY: the Buffer outlives the call that made it, and nobody else sees it before that returns.
        unsafe { std::slice::from_raw_parts_mut(self.data, self.bytes) }
    }
}

fn flatten(places: &[BodyPlace]) -> Vec<f64> {
    places.iter().flat_map(|(instance, start, length)| [*instance as f64, *start as f64, *length as f64]).collect()
}

/// Borrows the bytes of an array of Uint8Arrays for the length of the call it was passed to.
fn borrow_parts<'call>(env: &'call Env, parts: &'call Array) -> Result<Vec<&'call [u8]>> {
    let mut borrowed = Vec::with_capacity(parts.len() as usize);
    for index in 0..parts.len() {
        let mut kind = 0;
        let mut length = 0;
        let mut data = std::ptr::null_mut();
        // SAFETY: both values are of this call. The engine's thread sees only copies: the slices end with the call.
        let part: &[u8] = unsafe {
            let mut value = std::ptr::null_mut();
            check_status!(sys::napi_get_element(env.raw(), parts.raw(), index, &mut value))?;
            let (buffer, offset) = (std::ptr::null_mut(), std::ptr::null_mut());
            check_status!(
                sys::napi_get_typedarray_info(env.raw(), value, &mut kind, &mut length, &mut data, buffer, offset),
                "a part of a body is a Uint8Array"
            )?;
            if data.is_null() { &[] } else { std::slice::from_raw_parts(data.cast(), length) }
        };
        if kind != sys::TypedarrayType::uint8_array {
            return Err(Error::from_reason("a part of a body is a Uint8Array"));
        }
        borrowed.push(part);
    }
    Ok(borrowed)
}

pub struct Read {
    plan: ReadPlan,
}

impl Task for Read {
    type Output = Entries;
    type JsValue = NativeEntries;

    fn compute(&mut self) -> Result<Entries> {
        self.plan.read().map_err(js_error)
    }

    fn resolve(&mut self, _env: Env, entries: Entries) -> Result<NativeEntries> {
        Ok(NativeEntries { places: flatten(&entries.places).into(), bytes: entries.bytes.into() })
    }
}

pub struct Close {
    log: Arc<Log>,
}

impl Task for Close {
    type Output = ();
    type JsValue = ();

    fn compute(&mut self) -> Result<()> {
        self.log.close().map_err(js_error)
    }

    fn resolve(&mut self, _env: Env, (): ()) -> Result<()> {
        Ok(())
    }
}

pub struct Open {
    options: Options,
    committed: Arc<CommittedFunction>,
}

impl Task for Open {
    type Output = Log;
    type JsValue = NativeLog;

    fn compute(&mut self) -> Result<Log> {
        let committed = Arc::clone(&self.committed);
        let call: Committed = Box::new(move |event| {
            let Event { appends, settled, low_on_space, failure } = event;
            let failure = failure.as_ref().map(LogError::to_string);
            let args = (*appends, *settled, *low_on_space, failure);
            // It fails only when the environment is being torn down: then nobody listens.
            committed.call(args.into(), ThreadsafeFunctionCallMode::NonBlocking);
        });
        Log::open(self.options.clone(), Arc::new(RealFiles), call).map_err(js_error)
    }

    fn resolve(&mut self, _env: Env, log: Log) -> Result<NativeLog> {
        Ok(NativeLog { log: Arc::new(log), committed: Arc::clone(&self.committed) })
    }
}

#[napi(ts_args_type = "options: NativeOptions, committed: NativeCommitted", ts_return_type = "Promise<NativeLog>")]
pub fn open_log(options: NativeOptions, committed: Function<CommittedArgs, ()>) -> Result<AsyncTask<Open>> {
    let identity =
        Identity::try_from(&options.identity[..]).map_err(|_| Error::from_reason("identity has 16 bytes"))?;
    let committed = committed.build_threadsafe_function::<CommittedArgs>().weak::<true>();
    let NativeOptions { folder, segment_bytes, sync, .. } = options;
    let options = Options { folder: PathBuf::from(folder), identity, segment_bytes, sync };
    let committed = Arc::new(committed.build_callback(|context| Ok(context.value))?);
    Ok(AsyncTask::new(Open { options, committed }))
}
