#!/bin/bash
# A grid without `supermask sweep`, where a script must decide for itself what to call:
#   DENSITIES="0.1 0.5" SEEDS="0 1 2" examples/sweeps/loop.sh --arch lenet300
# Calling it again is safe: a search that is finished prints its result, one that was stopped goes on. A search that
# fails does not stop the others; its line is on stderr, and the exit code is 1.

failed=0
for density in ${DENSITIES:-0.1 0.3 0.5}; do
    for seed in ${SEEDS:-0 1 2}; do
        supermask search --density "$density" --seed "$seed" --out "runs/d$density-s$seed" "$@"
        case $? in
            0) ;;
            75 | 130) exit 75 ;; # stopped: the rest can wait as well
            *) failed=1 ;;
        esac
    done
done
supermask results runs
exit $failed
