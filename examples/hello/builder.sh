set -eu
echo "building as $(id -u) in $PWD"
echo "store paths that this build sees: $(cd "$NIX_STORE" && echo *)"
mkdir -p "$out/bin"
gcc -O2 -Wall -o "$out/bin/hello" "$src"
"$out/bin/hello" --check
