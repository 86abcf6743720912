//! What is interrupted. Each workload has a set-up, which is not.

/// Commands in the order in which they run: a program and its arguments. `@source` and the like are places of the
/// lab; `<FILE` at the end is the standard input, `>NAME` keeps the output's first line as `@NAME`.
pub struct Workload {
    pub name: &'static str,
    pub set_up: &'static [&'static str],
    /// Run under faults, and again afterwards, when it must succeed.
    pub work: &'static str,
}

pub const WORKLOADS: &[Workload] = &[
    Workload { name: "add", set_up: &[], work: "nix-store --add @source" },
    Workload {
        name: "add-large",
        set_up: &[],
        work: "nix-store --add @source --option nar-buffer-size 1000",
    },
    Workload {
        name: "import",
        set_up: &[
            "nix-store --add @source >P",
            "nix-store --export @P >>@base/export",
            "nix-store --delete @P",
        ],
        work: "nix-store --import <@base/export",
    },
    Workload { name: "instantiate", set_up: &[], work: "nix-instantiate @expressions/three.nix" },
    Workload { name: "build", set_up: &[], work: "nix-build --no-out-link @expressions/three.nix" },
    Workload {
        name: "gc",
        set_up: &["nix-store --add @source", "nix-instantiate @expressions/three.nix"],
        work: "nix-store --gc",
    },
    Workload { name: "delete", set_up: &["nix-store --add @source >P"], work: "nix-store --delete @P" },
    Workload {
        name: "optimise",
        set_up: &["nix-store --add @source", "nix-store --add @twin"],
        work: "nix-store --optimise",
    },
    Workload {
        name: "root",
        set_up: &["nix-store --add @source >P"],
        work: "nix-store --realise @P --add-root @mount/result",
    },
    Workload {
        name: "profile",
        set_up: &[
            "nix-store --add @source >P",
            "nix-env --profile @mount/var/profiles/p --set @P",
            "nix-store --add @twin >Q",
        ],
        work: "nix-env --profile @mount/var/profiles/p --set @Q",
    },
    Workload { name: "init", set_up: &["!fresh"], work: "nix-store --add @source" },
];

/// What the expressions are.
pub fn expressions() -> [(&'static str, &'static str); 1] {
    [(
        "three.nix",
        r#"let
  make = name: inputs: derivation {
    inherit name inputs;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-c" "echo ${name} $inputs > $out" ];
  };
  a = make "a" [ ];
  b = make "b" [ a ];
in make "c" [ a b ]
"#,
    )]
}
