{{- define "aos.labels" -}}
app.kubernetes.io/name: aos
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .service }}
{{- end }}

{{/* The same, to choose pods by, on one line. */}}
{{- define "aos.chosen" -}}
{{ include "aos.labels" . | fromYaml | toJson }}
{{- end }}

{{- define "aos.name" -}}
{{ printf "%s-%s" .root.Release.Name .service | trunc 52 }}
{{- end }}

{{- define "aos.at" -}}
{{ include "aos.name" . }}.{{ .root.Release.Namespace }}.svc:{{ .port }}
{{- end }}

{{- define "aos.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* What all pods have: no power over the machine, nor over the cluster, and none of its Services among their settings. */}}
{{- define "aos.pod" -}}
enableServiceLinks: false
automountServiceAccountToken: false
securityContext: {runAsNonRoot: true, runAsUser: 10001, runAsGroup: 10001, fsGroup: 10001, seccompProfile: {type: RuntimeDefault}}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "aos.container" -}}
name: {{ .service }}
image: {{ include "aos.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
{{- end }}

{{- define "aos.secrets" -}}
- name: AOS_SHARED_ADMIN_TOKEN
  valueFrom: {secretKeyRef: {name: {{ .Values.secret }}, key: admin-token}}
- name: AOS_SHARED_SERVICE_TOKEN
  valueFrom: {secretKeyRef: {name: {{ .Values.secret }}, key: service-token}}
{{- end }}

{{- define "aos.database" -}}
- name: AOS_SHARED_DATABASE
  valueFrom: {secretKeyRef: {name: {{ .Values.secret }}, key: database}}
{{- end }}

{{/* gRPC's own health: `live` says that the process works, the whole that it should get calls. */}}
{{- define "aos.probes" -}}
startupProbe: {grpc: {port: {{ .port }}, service: live}, periodSeconds: 2, failureThreshold: 60}
livenessProbe: {grpc: {port: {{ .port }}, service: live}, periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 3}
readinessProbe: {grpc: {port: {{ .port }}}, periodSeconds: 2, timeoutSeconds: 2, failureThreshold: 2}
{{- end }}

{{- define "aos.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector: {matchLabels: {{ include "aos.chosen" . }}}
{{- end }}
