package hook

import "slices"

// Events names the events of a client program, sorted; none of one that is not known.
func Events(name string) []string {
	var names []string
	for event := range clients[name].events {
		names = append(names, event)
	}
	slices.Sort(names)
	return names
}
