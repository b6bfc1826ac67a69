package durable

// LinkAndRemove is RenameNew where the system has no call for it.
var LinkAndRemove = linkAndRemove
