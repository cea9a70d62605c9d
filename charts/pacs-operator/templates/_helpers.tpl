{{- define "pacs-operator.labels" -}}
app.kubernetes.io/name: pacs-operator
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}
{{- define "pacs-operator.podLabels" -}}
app.kubernetes.io/name: pacs-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "pacs-operator.user" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ .Release.Name }}
{{- end }}
{{- /* The port of an https address; only what follows a colon is one: the end of https://192.0.2.10 is not. */ -}}
{{- define "pacs-operator.port" -}}
{{ regexFind ":[0-9]+$" . | trimPrefix ":" | default "443" | int }}
{{- end }}
