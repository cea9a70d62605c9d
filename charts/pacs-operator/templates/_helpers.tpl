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
