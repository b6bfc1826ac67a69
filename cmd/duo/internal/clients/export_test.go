package clients

// Content is what is ours in one file of a client, for tests.
type Content = content

// ContentOf is what is ours in the file with a role, nil where there is none.
func ContentOf(env Env, client, role string) Content {
	for _, f := range all[client].files(env, User) {
		if f.role == role {
			return f.content
		}
	}
	return nil
}

// The doors to what a content does.
var (
	Put  = content.put
	Take = content.take
	Same = same
)
