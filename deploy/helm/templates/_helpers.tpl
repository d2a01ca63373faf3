{{/* The chart's name for what it makes. */}}
{{- define "larder.name" -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" }}-larder
{{- end }}

{{- define "larder.selector" -}}
app.kubernetes.io/name: larder
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "larder.labels" -}}
{{ include "larder.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "larder.secret" -}}
{{- .Values.secret.existing | default (include "larder.name" .) }}
{{- end }}

{{- define "larder.image" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion -}}
{{ .Values.image.repository }}:{{ $tag }}{{ with .Values.image.digest }}@{{ . }}{{ end }}
{{- end }}

{{/* The port at the end of an address. */}}
{{- define "larder.port" -}}
{{- regexFind "[0-9]+$" . }}
{{- end }}

{{/* larder's container, alone in a pod or beside an API. */}}
{{- define "larder.container" -}}
name: larder
{{- if .Values.nativeSidecar }}
restartPolicy: Always
{{- end }}
image: {{ include "larder.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: [run, --config, /etc/larder/proxy.yaml]
ports:
  - {name: http, containerPort: {{ include "larder.port" .Values.config.listen }}}
  - {name: admin, containerPort: {{ include "larder.port" .Values.config.admin.listen }}}
envFrom:
  - secretRef: {name: {{ include "larder.secret" . }}}
startupProbe:
  httpGet: {path: /healthz, port: admin}
  periodSeconds: 1
  failureThreshold: 30
livenessProbe:
  httpGet: {path: /healthz, port: admin}
  periodSeconds: 10
  timeoutSeconds: 2
# 200 also while Redis is unavailable: a pod that answers from the API must stay in service.
readinessProbe:
  httpGet: {path: /readyz, port: admin}
  periodSeconds: 2
  timeoutSeconds: 2
lifecycle:
  {{- if .Values.nativeSidecar }}
  # larder gets SIGTERM after the API has ended. Clients leave while the API sleeps.
  preStop:
    exec:
      command: [/usr/bin/larder, drain, --admin, "127.0.0.1:{{ include "larder.port" .Values.config.admin.listen }}"]
  {{- else }}
  # Time for the Service to stop sending new connections.
  preStop:
    sleep: {seconds: {{ .Values.preStopSeconds }}}
  {{- end }}
resources: {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
volumeMounts:
  # A directory, not subPath: a file mounted by subPath never changes.
  - {name: larder, mountPath: /etc/larder, readOnly: true}
{{- end }}

{{- define "larder.volume" -}}
name: larder
configMap: {name: {{ include "larder.name" . }}}
{{- end }}

{{- define "larder.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}
