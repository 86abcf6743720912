//! R8: what outputs may and may not refer to.

use firn_testkit::World;

fn world() -> World {
    World::new().conf("sandbox = false")
}

/// Builds `top`, which refers to `middle` and through it to `bottom`, with these attributes.
#[track_caller]
fn check(attributes: &str, script: &str, wanted: Option<&str>) {
    let world = world();
    let run = world.try_build(
        &format!(
            r#"let bottom = make "bottom" "echo > $out";
                   middle = make "middle" "echo ${{bottom}} > $out";
               in makeWith "top" {{ {attributes} inherit middle; }} "{script}""#
        ),
        &[],
    );
    let Some(wanted) = wanted else {
        run.success();
        return;
    };
    let failed = run.fails(1).stderr_text();
    assert!(failed.contains(wanted), "{failed}");
    if wanted == CHAIN {
        let (_, chain) = failed.split_once(wanted).expect("a chain");
        let names: Vec<&str> = chain.lines().filter_map(|line| line.rsplit('-').next()).collect();
        assert!(names.ends_with(&["top", "middle", "bottom"]), "{failed}");
    }
}

const CHAIN: &str = "Shown is how the first of them is reached:";
const REFERS: &str = "echo $middle > $out";

#[test]
fn references() {
    let not_allowed = "is not allowed to refer to the following paths:\n";
    check("allowedReferences = [ ];", REFERS, Some(not_allowed));
    check("allowedReferences = [ middle ];", REFERS, None);
    check("allowedReferences = [ \"out\" middle ];", "echo $middle $out > $out", None);
    check("disallowedReferences = [ middle ];", REFERS, Some(not_allowed));
    check("disallowedReferences = [ bottom ];", REFERS, None);
    check("disallowedReferences = [ \"out\" ];", "echo $out > $out", Some(not_allowed));
}

#[test]
fn requisites_show_the_way() {
    check("disallowedRequisites = [ bottom ];", REFERS, Some(CHAIN));
    check("allowedRequisites = [ middle ];", REFERS, Some(CHAIN));
    check("allowedRequisites = [ middle bottom ];", REFERS, None);
}

#[test]
fn for_each_output() {
    let run = world().try_build(
        r#"let middle = make "middle" "echo > $out"; in makeWith "top" {
             builder = "/bin/bash";
             __structuredAttrs = true;
             outputs = [ "out" "dev" ];
             outputChecks.dev.disallowedReferences = [ middle ];
             inherit middle;
           } ". ./.attrs.sh; for o in out dev; do echo $middle > \${outputs[$o]}; done""#,
        &[],
    );
    let failed = run.fails(1).stderr_text();
    assert!(failed.contains("-top-dev"), "{failed}");
}
