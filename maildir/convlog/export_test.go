package convlog

// SetGeneration makes the log forget ids after n lines instead of generation.
func (l *Log) SetGeneration(n int) { l.ids.limit = n }
