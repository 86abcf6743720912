//! Apps: programs of flakes and packages.

use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::evaluation::Evaluation;
use crate::flakes::Cursor;
use crate::installables::{self, Built, InstallableArgs};
use firn_core::{DerivedPath, OutputsSpec};
use firn_eval::{Attrs, Coerce, ContextElem, Pos, Sym, Value, split_package_name};
use std::rc::Rc;

/// A program and what has to be built before it is there.
struct App {
    program: Vec<u8>,
    needs: Vec<DerivedPath>,
}

/// Builds what an installable runs; the program's path, and what was built.
pub fn resolve(context: &Context, what: &mut InstallableArgs) -> CliResult<(String, Vec<Built>)> {
    let app = match what.has_expression() {
        true => {
            let (mut evaluation, value) = what.value(context, false)?;
            let app = app(&mut evaluation, value)?;
            evaluation.flush()?;
            app
        }
        false => {
            let (mut evaluation, cursor) = what.cursor(context)?;
            let app = of_flake(context, &mut evaluation, &cursor)?;
            evaluation.flush()?;
            app
        }
    };
    let mut program = app.program;
    let built = installables::build(context, &app.needs, firn_store::BuildMode::Normal)?;
    for built in &built {
        let Some(drv) = &built.derivation else { continue };
        // Paths that were not known before the build stand there as placeholders.
        for (output, path) in &built.outputs {
            let placeholder = firn_derivation::DownstreamPlaceholder::ca_output(drv, output).render();
            let path = context.store()?.store_dir().display(path);
            program = firn_derivation::resolve::rewrite(
                &program,
                &[(placeholder.into_bytes(), path.into_bytes())].into(),
            );
        }
    }
    let program = String::from_utf8_lossy(&program).into_owned();
    if !context.store()?.store_dir().contains(&program) {
        return Err(CliError::failed(format!("app program '{program}' is not in the Nix store")));
    }
    Ok((program, built))
}

fn attribute(attrs: Attrs, name: &'static str) -> Option<Value> {
    attrs.find(Sym::from_static(name))
}

/// An attribute as text, with what it needs to have built.
fn string(evaluation: &mut Evaluation, value: Value, what: &'static str) -> CliResult<App> {
    let (program, references) = evaluation.run(|vm| vm.coerce(value, Coerce::PLAIN, Pos::NONE, what))?;
    let needs = references.elems().iter().map(needed).collect();
    Ok(App { program: program.to_vec(), needs })
}

/// The same of an output of a flake; what it should be is said by where it stands.
fn of_flake(context: &Context, evaluation: &mut Evaluation, cursor: &Rc<Cursor>) -> CliResult<App> {
    let path = cursor.path();
    let kind = cursor.need(evaluation, "type")?.string(evaluation)?;
    let expected = match cursor.steps().first().map(String::as_str) {
        Some("apps" | "defaultApp") => "app",
        _ => "derivation",
    };
    if kind != expected {
        return Err(CliError::failed(format!("attribute '{path}' should have type '{expected}'")));
    }
    if kind == "app" {
        let program = cursor.need(evaluation, "program")?;
        let (program, references) = program.text_with_context(context, evaluation)?;
        return Ok(App { program, needs: references.iter().map(needed).collect() });
    }
    let drv = cursor.derivation(context, evaluation)?;
    let out = cursor.need(evaluation, "outPath")?.string(evaluation)?;
    let output = cursor.need(evaluation, "outputName")?.string(evaluation)?;
    let meta = cursor.attr(evaluation, "meta")?;
    let main = match meta {
        Some(meta) => meta.attr(evaluation, "mainProgram")?,
        None => None,
    };
    let main = match main {
        Some(main) => Some(main),
        None => cursor.attr(evaluation, "pname")?,
    };
    let main = match main {
        Some(main) => main.string(evaluation)?,
        None => {
            let name = cursor.need(evaluation, "name")?.string(evaluation)?;
            String::from_utf8_lossy(split_package_name(name.as_bytes()).0).into_owned()
        }
    };
    let needs = vec![DerivedPath::built(drv, OutputsSpec::single(&output))];
    Ok(App { program: format!("{out}/bin/{main}").into_bytes(), needs })
}

/// What is built for an element of a context.
fn needed(element: &ContextElem) -> DerivedPath {
    match element {
        ContextElem::Opaque(path) => DerivedPath::Opaque(path.clone()),
        ContextElem::DrvDeep(path) => DerivedPath::built(path.clone(), OutputsSpec::All),
        ContextElem::Built { drv, output } => {
            DerivedPath::Built { drv: drv.clone(), outputs: OutputsSpec::single(output) }
        }
    }
}

/// What an app or a derivation runs.
fn app(evaluation: &mut Evaluation, value: Value) -> CliResult<App> {
    let not_one = || CliError::failed("the value is neither an app nor a derivation");
    let value = evaluation.run(|vm| vm.force(value))?;
    let attrs = value.as_attrs().ok_or_else(not_one)?;
    let Some(kind) = attribute(attrs, "type") else { return Err(not_one()) };
    let kind = string(evaluation, kind, "while evaluating the type of an app")?.program;
    match &kind[..] {
        b"app" => {
            let missing = || CliError::failed("attribute 'program' of the app is missing");
            let program = attribute(attrs, "program").ok_or_else(missing)?;
            string(evaluation, program, "while evaluating the program of an app")
        }
        b"derivation" => derivation(evaluation, attrs),
        other => Err(CliError::failed(format!(
            "attribute 'type' is '{}' but should be 'app' or 'derivation'",
            String::from_utf8_lossy(other)
        ))),
    }
}

/// `bin/` and `meta.mainProgram`, or the package's name without its version.
fn derivation(evaluation: &mut Evaluation, attrs: Attrs) -> CliResult<App> {
    let missing = |name: &str| CliError::failed(format!("attribute '{name}' of the derivation is missing"));
    let what = "while evaluating the main program of a derivation";
    let out = attribute(attrs, "outPath").ok_or_else(|| missing("outPath"))?;
    let mut app = string(evaluation, out, what)?;
    let mut main = None;
    if let Some(meta) = attribute(attrs, "meta") {
        let meta = evaluation.run(|vm| vm.force(meta))?;
        main = meta.as_attrs().and_then(|meta| attribute(meta, "mainProgram"));
    }
    let main = match main.or_else(|| attribute(attrs, "pname")) {
        Some(name) => string(evaluation, name, what)?.program,
        None => {
            let name = attribute(attrs, "name").ok_or_else(|| missing("name"))?;
            let name = string(evaluation, name, what)?.program;
            split_package_name(&name).0.to_vec()
        }
    };
    app.program.extend_from_slice(b"/bin/");
    app.program.extend(main);
    Ok(app)
}
