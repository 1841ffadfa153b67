{{/* The application's name: the label by which pods are selected. */}}
{{- define "pinn-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The name of everything, "pinn-operator" where the release is called so. It leaves room for "-discovery". */}}
{{- define "pinn-operator.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains (include "pinn-operator.name" .) .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "pinn-operator.name" .) | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Only the name: what `kubectl apply -k manifests/` installed can be taken over without a new Deployment, as selectors never change. */}}
{{- define "pinn-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "pinn-operator.name" . }}
{{- end }}

{{- define "pinn-operator.labels" -}}
{{ include "pinn-operator.selectorLabels" . }}
app.kubernetes.io/part-of: pinn-operator
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* An image by its digest, or by its tag, or by the chart's appVersion. */}}
{{- define "pinn-operator.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .chart.AppVersion }}
{{- end }}
{{- end }}
