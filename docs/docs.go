// Package docs holds the descriptions of the doors for programs, as they are served.
package docs

import _ "embed"

// OpenAPI describes the routes of HTTP (OpenAPI 3.1).
//
//go:embed openapi.yaml
var OpenAPI string

// AsyncAPI describes the frames of the stream (AsyncAPI 3.0).
//
//go:embed asyncapi.yaml
var AsyncAPI string
