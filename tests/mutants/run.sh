#!/bin/sh
# Plants each fault of this folder in a copy of the tree and requires that its named test fails.
#
# A patch says in a line "Test:" which test must fail. With names as arguments only these patches are
# planted. The tree itself is not touched; dependencies that are built are used again.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
copy=$root/target/mutants
cd "$root"
rm -rf "$copy"
mkdir -p "$copy"
git ls-files -z --cached --others --exclude-standard | tar --null --files-from=- --create | tar --extract --directory "$copy"
export CARGO_TARGET_DIR="$root/target"

survivors=""
for patch in "$root"/tests/mutants/*.patch; do
    name=$(basename "$patch" .patch)
    [ $# -eq 0 ] || case " $* " in *" $name "*) ;; *) continue ;; esac
    arguments=$(sed -n 's/^Test: //p' "$patch")
    log=$root/target/mutants/$name.log
    patch --quiet --directory "$copy" --strip 1 <"$patch"
    # shellcheck disable=SC2086 # arguments are words
    if (cd "$copy" && cargo test --offline --workspace $arguments) >"$log" 2>&1; then
        verdict="SURVIVED: its test passes"
        survivors="$survivors $name"
    elif grep -q '^test result: FAILED' "$log"; then
        verdict="found by $(sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$log" | head -1)"
    else
        verdict="NOT BUILT: see $log"
        survivors="$survivors $name"
    fi
    printf '%-32s %s\n' "$name" "$verdict"
    patch --quiet --reverse --directory "$copy" --strip 1 <"$patch"
done
[ -z "$survivors" ] || { echo "not found:$survivors" >&2; exit 1; }
