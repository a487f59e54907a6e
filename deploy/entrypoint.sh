#!/bin/sh
# Choose what a container is by its first word; what follows goes to that command.
set -eu
role=${1:-}
[ $# -eq 0 ] || shift
mkdir -p /data/lake /data/runs /cache/home # a volume of a cluster comes empty
case "$role" in
lab)
    # Without JUPYTER_TOKEN in the environment Lab makes a token and prints it.
    exec jupyter lab --ip=0.0.0.0 --port=8888 --no-browser --notebook-dir="$QUANTLAB_ROOT" "$@"
    ;;
serve)
    # In a container 127.0.0.1 is the container. The server opens itself to other machines only with a certificate of its
    # own (QUANTLAB_SERVE_CERTIFICATE, QUANTLAB_SERVE_KEY) or behind a proxy whose address is named (QUANTLAB_SERVE_PROXY).
    exec quantlab serve --host 0.0.0.0 --port "${QUANTLAB_SERVE_PORT:-8321}" "$@"
    ;;
report | worker | database)
    exec quantlab "$role" "$@"
    ;;
quantlab)
    # Any other command, such as: quantlab token new prometheus
    exec quantlab "$@"
    ;;
schedule)
    exec quantlab schedule run "$@"
    ;;
*)
    echo "'$role' is no role of this image; say lab, report, serve, worker, schedule, database or quantlab" >&2
    exit 2
    ;;
esac
