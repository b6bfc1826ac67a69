package mailbox

// Apply is how Done and Fail write a stamp into a drop.
func Apply(s Stamp, name string, data []byte) ([]byte, bool) { return s.apply(name, data) }
