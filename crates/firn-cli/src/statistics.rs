//! `NIX_SHOW_STATS`: what an evaluation did, as JSON in the reference's layout.

use firn_eval::{EvalHost, Origin, Vm};
use serde_json::{Map, Value, json};
use std::io::Write;

fn is_on(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| value != "0")
}

/// Whether calls are to be counted (`NIX_COUNT_CALLS`).
pub fn counts_calls() -> bool {
    is_on("NIX_COUNT_CALLS") && is_on("NIX_SHOW_STATS")
}

/// Prints the statistics if they are asked for: to the standard error or the file `NIX_SHOW_STATS_PATH`.
pub fn show(vm: &Vm) -> std::io::Result<()> {
    if !is_on("NIX_SHOW_STATS") {
        return Ok(());
    }
    let mut report = report(vm);
    report.sort_all_objects();
    let text = format!("{report:#}\n");
    match std::env::var_os("NIX_SHOW_STATS_PATH").filter(|path| path != "-" && !path.is_empty()) {
        Some(path) => std::fs::write(path, text),
        None => std::io::stderr().lock().write_all(text.as_bytes()),
    }
}

fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// What firn does not count is 0: its frames, sets and lists share memory and have no counters of their own.
fn report(vm: &Vm) -> Value {
    let stats = vm.statistics();
    let cpu = cpu_seconds();
    let mut report = json!({
        "cpuTime": cpu,
        "time": { "cpu": cpu, "gc": 0.0, "gcFraction": 0.0 },
        "envs": { "number": 0, "elements": 0, "bytes": 0 },
        "nrExprs": 0,
        "list": { "elements": 0, "bytes": 0, "concats": 0 },
        "values": { "number": 0, "bytes": stats.heap_bytes },
        "symbols": { "number": stats.symbols, "bytes": stats.symbol_bytes },
        "sets": { "number": 0, "bytes": 0, "elements": 0 },
        "sizes": { "Env": 8, "Value": 8, "Bindings": 8, "Attr": 8 },
        "nrOpUpdates": stats.updates,
        "nrOpUpdateValuesCopied": 0,
        "nrThunks": stats.thunks_forced,
        "nrAvoided": 0,
        "nrLookups": 0,
        "nrPrimOpCalls": stats.builtin_calls,
        "nrFunctionCalls": stats.function_calls,
        "gc": { "heapSize": stats.heap_bytes, "totalBytes": stats.heap_bytes, "cycles": 0 },
        "firn": {
            "shapes": stats.shapes,
            "shapeKeys": stats.shape_keys,
            "updatePlans": stats.update_plans,
            "updatePlanBytes": stats.update_plan_bytes,
            "contexts": stats.contexts,
            "contextElements": stats.context_elements,
            "codeBytes": stats.code_bytes,
            "collections": stats.collections,
            "files": stats.files,
        },
    });
    if let Some(counts) = vm.call_counts() {
        let builtins: Map<String, Value> =
            counts.builtins.into_iter().map(|(name, count)| (name.to_owned(), count.into())).collect();
        report["primops"] = builtins.into();
        let host: &dyn EvalHost = &**vm.host();
        let functions = counts.functions.into_iter().map(|(pos, name, count)| {
            let mut entry = json!({ "name": name.map(|name| name.to_string()), "count": count });
            if let Some(place) = pos.place(host) {
                if let Origin::Path(path) = &place.origin {
                    entry["file"] = String::from_utf8_lossy(path).into();
                }
                entry["line"] = place.line.into();
                entry["column"] = place.column.into();
            }
            entry
        });
        report["functions"] = functions.collect();
        // The reference counts these too, and then prints none of it.
        report["attributes"] = Value::Null;
    }
    if is_on("NIX_SHOW_SYMBOLS") {
        report["symbols"] = firn_eval::all_symbols().map(|name| String::from_utf8_lossy(name)).collect();
    }
    report
}
