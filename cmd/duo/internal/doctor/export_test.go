package doctor

// For tests: what depends on the machine.
var (
	Room    = room
	Watches = watches
)
