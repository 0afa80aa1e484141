#!/bin/bash
# How long nothing comes when networks change, of our programs, Google's WebRTC and iroh, each with itself, in the networks and by
# the accidents of tests/lab/moves.sh: medians of so many runs. WebRTC and we: both behind home NATs; iroh, which has neither its
# relays nor its discovery here, which are somebody's servers, and we once more: the callee has a public address, known to both.
# The programs of others and what is done for them: bench/others_flow.js. usage: bench/moves.sh [RUNS]; BUILD names the build directory. Needs node and npm.
HERE=$(cd "$(dirname "$0")" && pwd)
BUILD=$(cd "${BUILD:-$HERE/../build}" && pwd)
export BUILD SLEEPER_SO=$BUILD/tests/sleeper.so MODULES=$BUILD/npm/node_modules
[ -d "$MODULES/@number0/iroh" ] && [ -d "$MODULES/@roamhq/wrtc" ] ||
    timeout 120 npm install --prefix "$BUILD/npm" --no-audit --no-fund @roamhq/wrtc @number0/iroh >/dev/null || exit 1
RUNS=${1:-3}
OUT=$(mktemp -d)
trap 'rm -rf "$OUT"' EXIT
run() { # COLUMN environment...
    column=$1
    shift
    for _ in $(seq "$RUNS"); do
        env "$@" "$HERE/../tests/lab/moves.sh"
    done >"$OUT/$column" 2>&1
}
others=OTHERS=$HERE/moves_others.sh
run ours A=1 &
run webrtc "$others" STACK=wrtc &
wait
run ours-public CALLEE=- &
run iroh "$others" STACK=iroh CALLEE=- &
wait
for column in ours webrtc ours-public iroh; do
    grep -hE '^[^ ].* ms( |$)|broke off' "$OUT/$column" | sed -E 's/  +/\t/; s/ ms.*//' | awk -F'\t' -v c=$column '{ print c "\t" $1 "\t" $2 }'
done | awk -F'\t' -v runs="$RUNS" '
    !($2 in seen) { seen[$2] = 1; names[++n] = $2 }
    { all[$1, $2] = all[$1, $2] " " ($3 ~ /broke/ ? 999999 : $3) }
    function median(text, t, k, i, j, x) {
        k = split(text, t, " ")
        for (i = 1; i <= k; i++) for (j = i + 1; j <= k; j++) if (t[j] + 0 < t[i] + 0) { x = t[i]; t[i] = t[j]; t[j] = x }
        return !k ? "-" : t[int((k + 1) / 2)] == 999999 ? "broke off" : t[int((k + 1) / 2)] " (" t[1] ".." (t[k] == 999999 ? "broke off" : t[k]) ")"
    }
    END {
        printf "%-38s %-22s %-24s %-22s %s\n", "pause, ms: median (least..most)", "thalweg", "WebRTC", "thalweg, public callee", "iroh, public callee"
        for (i = 1; i <= n; i++)
            printf "%-38s %-22s %-24s %-22s %s\n", names[i], median(all["ours", names[i]]), median(all["webrtc", names[i]]),
                median(all["ours-public", names[i]]), median(all["iroh", names[i]])
    }'
