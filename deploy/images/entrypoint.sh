#!/bin/sh
# Starts Node with an allow-list of the environment. Other admission webhooks add NODE_OPTIONS, NODE_EXTRA_CA_CERTS or
# SSL_CERT_FILE to every container of a pod; here they could load code or widen trust.
set -eu

allowed='POSTERN_[A-Z0-9_]*|KUBERNETES_SERVICE_HOST|KUBERNETES_SERVICE_PORT|PATH'

set -- node --disable-warning=ExperimentalWarning "${0%/*}/main.mjs" "$@"
for name in $(env | sed -n -E "s/^($allowed)=.*/\1/p"); do
  # A line inside another variable's value may look like a name that is not set.
  eval "if [ -n \"\${$name+set}\" ]; then set -- \"\$name=\${$name}\" \"\$@\"; fi"
done
exec env -i "$@"
