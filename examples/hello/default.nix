# A C program, compiled in the sandbox by the compiler of the machine. `tools` is where that is: the run script
# makes its folders visible through the setting sandbox-paths.
{ system ? builtins.currentSystem }:

derivation {
  name = "hello-1.0";
  inherit system;
  builder = "/bin/sh";
  args = [ ./builder.sh ];
  src = ./hello.c;
  PATH = "/usr/bin:/bin";
}
