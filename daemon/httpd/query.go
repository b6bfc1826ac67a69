package httpd

import (
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/maildir/near"
)

// checkQuery refuses a parameter that a route does not know: whoever has misspelt one would
// take the answer to another question for that to its own.
func checkQuery(r *http.Request, known ...string) error {
	if r.URL.RawQuery == "" {
		return nil
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return api.Errorf(api.BadRequest, "query: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if slices.Contains(known, name) {
			continue
		}
		list := "it takes none"
		if len(known) > 0 {
			list = "it takes " + strings.Join(known, ", ")
		}
		return api.Errorf(api.BadRequest, "query: there is no parameter %.100q of %s: %s", name, r.URL.Path, list).WithNear(near.Names(name, known))
	}
	return nil
}

// parameters are those of the query that a handler's input names in its fields.
func parameters(in reflect.Type) (names []string) {
	for _, field := range reflect.VisibleFields(in) {
		if name, _, _ := strings.Cut(field.Tag.Get("query"), ","); name != "" {
			names = append(names, name)
		}
	}
	return names
}
