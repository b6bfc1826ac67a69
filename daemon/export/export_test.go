package export

// SetStep makes an import ask before each change; an error ends it there, as a crash does.
func (im *Import) SetStep(step func(what string) error) { im.step = step }
