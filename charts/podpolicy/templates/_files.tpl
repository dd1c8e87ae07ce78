{{/* The objects in the files of a folder of config/, but those named: (list $ FOLDER EXCEPTION...). */}}
{{- define "podpolicy.folder" -}}
{{- $root := first . }}
{{- $exceptions := concat (list "namespace.yaml" "kustomization.yaml") (slice . 2) }}
{{- range $path, $_ := $root.Files.Glob (printf "files/config/%s/*.yaml" (index . 1)) }}
{{- if not (or (has (base $path) $exceptions) (hasSuffix "_patch.yaml" $path)) }}
{{- include "podpolicy.file" (list $root $path) }}
{{- end }}
{{- end }}
{{- end }}

{{/* The objects in a file: (list $ PATH). */}}
{{- define "podpolicy.file" -}}
{{- $root := first . }}
{{- range regexSplit "(?m)^---$" ($root.Files.Get (index . 1)) -1 }}
{{- include "podpolicy.object" (list $root (fromYaml .)) }}
{{- end }}
{{- end }}

{{/* An object, in the release's namespace and with the chart's labels: (list $ OBJECT). */}}
{{- define "podpolicy.object" -}}
{{- $root := first . }}
{{- $object := index . 1 }}
{{- $metadata := $object.metadata }}
{{- if $metadata.namespace }}{{ $_ := set $metadata "namespace" $root.Release.Namespace }}{{ end }}
{{- range $object.subjects }}{{ $_ := set . "namespace" $root.Release.Namespace }}{{ end }}
{{- $labels := dict
      "app.kubernetes.io/instance" $root.Release.Name
      "app.kubernetes.io/managed-by" $root.Release.Service
      "app.kubernetes.io/version" $root.Chart.AppVersion
      "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version) }}
{{- $_ := set $metadata "labels" (merge (default dict $metadata.labels) $labels) }}
---
{{ toYaml $object }}
{{ end }}
