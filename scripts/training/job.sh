#!/usr/bin/env bash
# One training job of so many minutes, without network: train, evaluate, write the checkpoint.
#
#   OUT=results scripts/training/job.sh NAME MINUTES [--set NAME=VALUE ...]
#
# NAME      settings scripts/training/NAME.toml
# OUT       folder of the results: checkpoint, metrics, settings, log, evaluation
# FROM      folder with a checkpoint step-N of the same settings to go on from (optional)
# EVAL      files to evaluate on, with references (optional); EVAL_ARGS: options of it
# LABELS    arguments of nco.training.label; labels are made on the other cores meanwhile and
#           come back as OUT/labels.npz for the next job (optional)
# PYTHON    interpreter (python3)
set -euo pipefail
name=$1 minutes=$2
shift 2
python=${PYTHON:-python3}
run=$(mktemp -d)/$name
mkdir -p "$run" "$OUT"
# The package laid out as it is installed, so that experts find it without an installation.
package=$(mktemp -d)
cp -r nco "$package/"
for part in instances mip robust; do cp -r "$part" "$package/nco/$part"; done
export PYTHONUNBUFFERED=1 PYTHONSAFEPATH=1 PYTHONPATH=$package${PYTHONPATH:+:$PYTHONPATH}
if [ -n "${FROM:-}" ]; then cp -r "$FROM"/step-* "$run/"; fi
labels=
if [ -n "${LABELS:-}" ]; then
    # One part of the cores stays with the training.
    cores=$(nproc)
    # shellcheck disable=SC2086
    "$python" -m nco.training.label $LABELS --out "$OUT/labels.npz" --jobs $((cores > 3 ? cores - 2 : 1)) \
        --minutes "$(awk "BEGIN { print $minutes - 0.5 }")" >"$OUT/labels.log" 2>&1 &
    labels=$!
fi
"$python" -m nco.training.train "scripts/training/$name.toml" --out "$run" --minutes "$minutes" \
    "$@" 2>&1 | tee "$OUT/log"
last=$(ls -d "$run"/step-* | tail -n 1)
cp -r "$last" "$run/metrics.jsonl" "$run/config.toml" "$OUT/"
if [ -n "$labels" ]; then
    wait "$labels" || tail -n 3 "$OUT/labels.log"
    rm -rf "$OUT/labels.npz.parts" "$OUT/labels.log"
fi
if [ -n "${EVAL:-}" ]; then
    # shellcheck disable=SC2086
    "$python" -m nco.training.evaluate "$run" $EVAL ${EVAL_ARGS:---k 100} | tee "$OUT/eval.jsonl"
fi
