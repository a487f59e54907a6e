#!/bin/sh
# Ask the server of this container whether it lives; a container that is no server lives while it runs.
set -eu
tr '\0' ' ' </proc/1/cmdline | grep -qE '(^| |/)serve( |$)' || exit 0
scheme=http
[ -z "${QUANTLAB_SERVE_CERTIFICATE:-}" ] || scheme=https
# The certificate is made out to a name, and this asks by number from inside: who it is needs no proof here.
exec python -c "
import ssl, sys, urllib.request
urllib.request.urlopen(sys.argv[1], timeout=5, context=ssl._create_unverified_context())
" "$scheme://127.0.0.1:${QUANTLAB_SERVE_PORT:-8321}/health"
