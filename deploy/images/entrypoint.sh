#!/bin/sh
# Starts Node with an allow-list of the environment. Other admission webhooks add NODE_OPTIONS, NODE_EXTRA_CA_CERTS or
# SSL_CERT_FILE to every container of a pod; here they could load code or widen trust. So could the variables of ours
# that only processes outside pods need: POSTERN_API_SERVER, POSTERN_TOKEN_DIR, POSTERN_STATE_DIR.
set -eu

allowed='PATH KUBERNETES_SERVICE_HOST KUBERNETES_SERVICE_PORT
  POSTERN_CONFIG POSTERN_POD_NAME POSTERN_POD_NAMESPACE POSTERN_POD_UID POSTERN_POD_IPS POSTERN_NODE_IP
  POSTERN_SERVICE_ACCOUNT POSTERN_CONFIG_FILE POSTERN_SIDECAR_IMAGE'

set -- node --disable-warning=ExperimentalWarning --max-semi-space-size=4 "${0%/*}/main.mjs" "$@"
for name in $allowed; do
  eval "if [ -n \"\${$name+set}\" ]; then set -- \"\$name=\${$name}\" \"\$@\"; fi"
done
exec env -i "$@"
