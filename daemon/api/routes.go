package api

// The routes of the daemon. {ref} is a reference or a full id, {name} a name or an
// address. Bodies of POST are drafts of envelopes, as drops are, unless said
// otherwise.
const (
	RouteHealth        = "GET /healthz"
	RouteStatus        = "GET /v1/status"                            // Status
	RouteStop          = "POST /v1/stop"                             // ends the daemon
	RouteRegister      = "POST /v1/agents"                           // Register → Registered
	RouteAgents        = "GET /v1/agents"                            // ?q= &capability= → Agents
	RouteAgent         = "GET /v1/agents/{name}"                     // Agent
	RouteUnregister    = "DELETE /v1/agents/{name}"                  // Agent
	RouteMe            = "GET /v1/me"                                // Agent
	RouteInbox         = "GET /v1/me/inbox"                          // ?limit= → Inbox
	RouteRead          = "POST /v1/me/read"                          // Read → Messages
	RouteShown         = "POST /v1/me/seen"                          // Shown → 204
	RouteEvents        = "GET /v1/me/events"                         // ?conversation= &after= &from= &type= &wait= &limit= → Messages
	RouteGetCurrent    = "GET /v1/me/current"                        // Current
	RouteSetCurrent    = "PUT /v1/me/current"                        // Current → Current
	RouteMessage       = "POST /v1/messages"                         // to agents → Posted
	RouteCreate        = "POST /v1/conversations"                    // Posted
	RouteConversations = "GET /v1/conversations"                     // ?status= &with= &limit= → Conversations
	RouteConversation  = "GET /v1/conversations/{ref}"               // Conversation
	RouteSend          = "POST /v1/conversations/{ref}/messages"     // Posted
	RouteTranscript    = "GET /v1/conversations/{ref}/messages"      // ?after= &before= &last= &limit= → lines of the log
	RouteInvite        = "POST /v1/conversations/{ref}/participants" // "to" invites, nothing joins → Posted
	RouteLeave         = "DELETE /v1/conversations/{ref}/participants/me"
	RouteClose         = "POST /v1/conversations/{ref}/close"   // Posted
	RouteReceipts      = "GET /v1/conversations/{ref}/receipts" // ?seq= &until= &wait= → Receipts
	RouteFind          = "GET /v1/refs/{ref}"                   // Found
	RouteStream        = "GET /v1/stream"                       // WebSocket; docs/stream.md
)
