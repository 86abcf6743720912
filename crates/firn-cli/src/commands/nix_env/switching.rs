//! `nix-env --switch-profile`, `--switch-generation`, `--rollback`, `--list-generations` and `--delete-generations`.

use super::install::no_flags;
use super::{Line, source};
use crate::args::text;
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::local_time::{local_time, seconds_now};
use firn_profile::{Generations, Selection, dirs, generations};
use firn_store::activity::Verbosity;

fn notice(context: &Context) -> impl Fn(&str) + '_ {
    |text: &str| context.logger.log(Verbosity::Notice, text.as_bytes())
}

pub fn switch_profile(context: &Context, line: Line) -> CliResult<u8> {
    no_flags(&line)?;
    let [profile] = &line.args[..] else {
        return Err(CliError::usage("exactly one argument expected"));
    };
    let profile = std::path::absolute(profile).map_err(CliError::io("resolving", profile))?;
    let link = dirs::profile_link(&context.settings)?;
    generations::switch_link(&link, &profile)?;
    Ok(0)
}

pub fn switch_generation(context: &Context, line: Line) -> CliResult<u8> {
    no_flags(&line)?;
    let [number] = &line.args[..] else {
        return Err(CliError::usage("exactly one argument expected"));
    };
    let number = number.to_str().and_then(|text| text.parse().ok());
    let number = number.ok_or_else(|| CliError::usage("expected a generation number"))?;
    switch(context, &line, Some(number))
}

pub fn rollback(context: &Context, line: Line) -> CliResult<u8> {
    no_flags(&line)?;
    if !line.args.is_empty() {
        return Err(CliError::usage("no arguments expected"));
    }
    switch(context, &line, None)
}

fn switch(context: &Context, line: &Line, number: Option<u64>) -> CliResult<u8> {
    let profile = source::profile(context, line)?;
    generations::switch(&profile, number, line.dry_run, &notice(context))?;
    Ok(0)
}

pub fn list_generations(context: &Context, line: Line) -> CliResult<u8> {
    no_flags(&line)?;
    if !line.args.is_empty() {
        return Err(CliError::usage("no arguments expected"));
    }
    let profile = source::profile(context, &line)?;
    let found = {
        let _lock = generations::lock(&profile, &notice(context))?;
        Generations::of(&profile)?
    };
    let mut out = String::new();
    for generation in &found.all {
        let mark = if Some(generation.number) == found.current { "(current)" } else { "" };
        let time = local_time(generation.created);
        out.push_str(&format!("{:4}   {time}   {mark}\n", generation.number));
    }
    crate::pager::print(context, out.as_bytes())?;
    Ok(0)
}

pub fn delete_generations(context: &Context, line: Line) -> CliResult<u8> {
    no_flags(&line)?;
    let args = line.args.iter().map(|arg| text("generation", arg.clone())).collect::<CliResult<Vec<_>>>()?;
    let selection = Selection::parse(&args, seconds_now())?;
    let profile = source::profile(context, &line)?;
    generations::delete(&profile, &selection, line.dry_run, &notice(context))?;
    Ok(0)
}
