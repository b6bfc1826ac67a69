package session

import (
	"bytes"
	"os"
	"strconv"
)

// look reads /proc/PID/stat: the name stands in parentheses and may have some itself; the
// state is behind it, then the parent, and as the 22nd field the time of the start.
func look(pid int) (seen, bool) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return seen{}, false
	}
	open, end := bytes.IndexByte(data, '('), bytes.LastIndexByte(data, ')')
	if open < 0 || end < open {
		return seen{}, false
	}
	fields := bytes.Fields(data[end+1:])
	if len(fields) < 20 {
		return seen{}, false
	}
	parent, err := strconv.Atoi(string(fields[1]))
	ended := bytes.ContainsAny(fields[0], "ZXx")
	return seen{parent, string(fields[19]), string(data[open+1 : end])}, err == nil && !ended
}
