{{- define "tokenweir.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "tokenweir.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains (include "tokenweir.name" .) .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "tokenweir.name" .) | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "tokenweir.selector" -}}
app.kubernetes.io/name: {{ include "tokenweir.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "tokenweir.labels" -}}
{{ include "tokenweir.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "tokenweir.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "tokenweir.configMap" -}}
{{- .Values.existingConfigMap | default (printf "%s-config" (include "tokenweir.fullname" .)) }}
{{- end }}

{{- define "tokenweir.secret" -}}
{{- .Values.secret.existing | default (printf "%s-environment" (include "tokenweir.fullname" .)) }}
{{- end }}

{{- define "tokenweir.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "tokenweir.fullname" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end }}

{{/* What the chart needs of the configuration to agree with; every fault says what to do. */}}
{{- define "tokenweir.check" -}}
{{- if and (not .Values.secret.existing) (not .Values.secret.values) }}
{{- fail "secret: name a Secret of yours in secret.existing, or give secret.values (REDIS_URL, LEDGER_URL, keys of providers)" }}
{{- end }}
{{- if and .Values.secret.existing .Values.secret.values }}
{{- fail "secret: existing and values are both given; keep one of them" }}
{{- end }}
{{- if not .Values.existingConfigMap }}
{{- $config := fromYaml .Values.config }}
{{- if hasKey $config "Error" }}
{{- fail (printf "config: it is no YAML: %s" $config.Error) }}
{{- end }}
{{- $server := $config.server | default dict }}
{{- if ne (int ($server.port | default 8080)) 8080 }}
{{- fail "config: server.port must be 8080 in a pod; service.port is what clients see" }}
{{- end }}
{{- if or (ne (int $server.metrics_port) 9464) (ne ($server.metrics_host | default "") "0.0.0.0") }}
{{- fail "config: server needs metrics_host: 0.0.0.0 and metrics_port: 9464, or nobody can scrape a pod" }}
{{- end }}
{{- if not ($config.redis | default dict).url }}
{{- fail "config: redis.url is missing; without it every pod would have a Redis, and caps, of its own" }}
{{- end }}
{{- if not ($config.ledger | default dict).url }}
{{- fail "config: ledger.url is missing; without it every worker would have a ledger of its own" }}
{{- end }}
{{- if and .Values.console.enabled (not (hasKey $config "admin")) }}
{{- fail "config: console.enabled is set and the section `admin` is missing: add admin: {keys: [...]}, made with `weir keys admin`" }}
{{- end }}
{{- if and .Values.console.enabled (not (($config.admin | default dict).keys)) (not .Values.console.keysInLedger) }}
{{- fail "config: console.enabled is set and admin.keys is empty, so nobody could log in: add a key, made with `weir keys admin`, or set console.keysInLedger where the ledger has keys" }}
{{- end }}
{{- if and $server.tls (not .Values.tlsSecret) }}
{{- fail "config: server.tls is set; name the Secret with the certificate in tlsSecret" }}
{{- end }}
{{- end }}
{{- if and .Values.proxy.autoscaling.enabled (gt (int .Values.proxy.autoscaling.minReplicas) (int .Values.proxy.autoscaling.maxReplicas)) }}
{{- fail "proxy.autoscaling: minReplicas is above maxReplicas" }}
{{- end }}
{{- if lt (int .Values.proxy.terminationGracePeriodSeconds) (add (int .Values.proxy.preStopSeconds) 45) }}
{{- fail "proxy.terminationGracePeriodSeconds must be at least preStopSeconds + 45: 20 s for streams, and time to settle what is cut" }}
{{- end }}
{{- end }}

{{- define "tokenweir.scheme" -}}
{{- ternary "HTTPS" "HTTP" (not (empty .Values.tlsSecret)) }}
{{- end }}

{{- define "tokenweir.readiness" -}}
{{- if ne .Values.proxy.readiness "auto" -}}
{{ .Values.proxy.readiness }}
{{- else -}}
{{- $config := ternary dict (fromYaml .Values.config) (not (empty .Values.existingConfigMap)) }}
{{- ternary "/readyz" "/healthz" (eq (($config.redis | default dict).on_outage | default "local") "closed") }}
{{- end -}}
{{- end }}

{{/* Roll what must: workers at every change of the configuration, all at a change of the Secret. */}}
{{- define "tokenweir.secretChecksum" -}}
{{- if .Values.secret.values }}
checksum/environment: {{ toJson .Values.secret.values | sha256sum }}
{{- end }}
{{- end }}

{{- define "tokenweir.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "tokenweir.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "tokenweir.environment" -}}
- {name: WEIR_CONFIG, value: /etc/weir/config/config.yaml}
# Below the volume's root, which belongs to the kubelet: data_dir must be ours, and 0700.
- {name: WEIR_DATA_DIR, value: /var/lib/weir/data}
{{- end }}

{{- define "tokenweir.volumes" -}}
- {name: tmp, emptyDir: {sizeLimit: 256Mi}}
- name: config
  configMap: {name: {{ include "tokenweir.configMap" . }}}
{{- if .Values.tlsSecret }}
- name: tls
  secret: {secretName: {{ .Values.tlsSecret }}, defaultMode: 0440}
{{- end }}
{{- end }}

{{- define "tokenweir.volumeMounts" -}}
- {name: tmp, mountPath: /tmp}
# The directory, not one file of it by subPath: that would never see a change.
- {name: config, mountPath: /etc/weir/config, readOnly: true}
{{- if .Values.tlsSecret }}
- {name: tls, mountPath: /etc/weir/tls, readOnly: true}
{{- end }}
{{- end }}
