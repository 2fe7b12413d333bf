#!/bin/sh
# Makes TEAM.tar.gz of a built image and tests it as the organisers do: load it, then one container per case.
# Usage: sh scripts/submission.sh TEAM          make the archive and test it
#        sh scripts/submission.sh --check TEAM  only see whether TEAM can be a name
#
# Optional environment:
#   IMAGE   the built image (gfscreen:latest)
#   OUTPUT  folder for the archive (.)
#   CASES   folder with X_0000.nii.gz to test on (default: three digital phantoms, made now)
#   GPU     number of the GPU for --gpus (default: none, the CPU is used)
#   PYTHON  interpreter with this project's packages (.venv/bin/python)
# Exit: 0 the archive passed, 1 something failed, 2 wrong usage. Nothing of an archive that could not be made stays.
set -eu
# Ranges such as a-z mean ASCII.
LC_ALL=C

fail() {
    echo "submission: $1" >&2
    exit "${2:-1}"
}

# Docker wants lower case; the organisers take the image's name from the file's name up to its first dot.
check_name() {
    case $1 in
        '') fail 'no team name; make submission TEAM=name' 2 ;;
        *[A-Z]*) fail "$1: expected lower case, as Docker asks of image names; try TEAM=$(echo "$1" | tr '[:upper:]' '[:lower:]')" 2 ;;
        *.*) fail "$1: expected no dot, since the image's name ends at the first dot of the file's; leave it out" 2 ;;
        *[!a-z0-9_-]*) fail "$1: expected letters a-z, digits, - and _ only; choose another name" 2 ;;
        [_-]* | *[_-]) fail "$1: expected a letter or digit at both ends; choose another name" 2 ;;
        *___* | *_-* | *-_*) fail "$1: expected - or at most __ between letters, as Docker asks; choose another name" 2 ;;
    esac
}

if test "${1-}" = --check; then
    check_name "${2-}"
    exit 0
fi
test $# -eq 1 || fail 'expected one argument; sh scripts/submission.sh TEAM' 2
team=$1
check_name "$team"

here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
image=${IMAGE:-gfscreen:latest}
python=${PYTHON:-$here/.venv/bin/python}
output=${OUTPUT:-.}

case ${GPU-} in
    *[!0-9]*) fail "GPU=$GPU: expected the number of a GPU; leave it out for the CPU" 2 ;;
esac
test -d "$output" || fail "$output: no such folder; make it or set OUTPUT" 2
test -z "${CASES-}" || test -d "$CASES" || fail "$CASES: no such folder; CASES names one with X_0000.nii.gz" 2
command -v "$python" >/dev/null 2>&1 || fail "$python: not found; make setup, or set PYTHON" 2
command -v docker >/dev/null 2>&1 || fail 'docker: not found; install Docker' 2
docker image inspect "$image" >/dev/null 2>&1 || fail "$image: no such image; make image, or set IMAGE" 2

archive=$(CDPATH='' cd -- "$output" && pwd)/$team.tar.gz
work=$(mktemp -d)
finish() {
    rm -rf "$work" || echo "submission: $work could not be removed" >&2
}
trap finish EXIT
trap 'exit 1' HUP INT TERM

echo "== $archive"
docker tag "$image" "$team:latest"
# Not in one pipe: sh would not see that docker failed.
docker save -o "$work/image.tar" "$team:latest" || fail "docker save $team:latest failed"
gzip -n "$work/image.tar"
# Removed first, so that what is tested is what the archive holds.
docker image rm "$team:latest" >/dev/null
mv "$work/image.tar.gz" "$archive"
echo "$(wc -c <"$archive" | tr -d ' ') bytes"

echo "== docker load"
docker load -i "$archive"
docker image inspect "$team:latest" >/dev/null 2>&1 ||
    fail "$archive: holds no image $team:latest, which is what its name promises"

if test -n "${CASES-}"; then
    cases=$(CDPATH='' cd -- "$CASES" && pwd)
else
    (cd "$here" && "$python" -m eval cases -o "$work/phantoms" >/dev/null)
    cases=$work/phantoms/images
fi

passed=0
failed=0
for scan in "$cases"/*_0000.nii.gz; do
    test -f "$scan" || fail "$cases: no X_0000.nii.gz in it; set CASES"
    place=$work/case
    rm -rf "$place"
    mkdir -p "$place/inputs" "$place/outputs"
    chmod 777 "$place" "$place/outputs"
    cp "$scan" "$place/inputs/"
    chmod a+r "$place/inputs"/*
    echo "== $(basename "$scan")"
    # The organisers' line, to the letter but for --gpus where there is none.
    start=$(date +%s)
    code=0
    (
        cd "$place"
        set -- --shm-size=28gb -m 28G
        if test -n "${GPU-}"; then set -- "$@" --gpus="device=$GPU"; fi
        set -- "$@" --name "$team" --rm -v "$PWD/inputs/:/workspace/inputs/" -v "$PWD/outputs/:/workspace/outputs/"
        docker container run "$@" "$team:latest" /bin/bash -c "sh predict.sh"
    ) || code=$?
    seconds=$(($(date +%s) - start))
    echo "$seconds s (45 are tolerated), exit code $code"
    if test "$code" -eq 0 && (cd "$here" && "$python" -m eval check --images "$place/inputs" --pred "$place/outputs"); then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
    fi
done

echo "== $archive: $passed cases passed, $failed failed"
test "$failed" -eq 0
