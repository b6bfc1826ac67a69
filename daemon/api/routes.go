package api

// The routes of the daemon. {ref} is a reference or a full id, {name} a name or an
// address. Bodies of POST are drafts of envelopes, as drops are, unless said
// otherwise.
const (
	RouteHealth        = "GET /healthz"                              // "ok", to anybody
	RouteOpenAPI       = "GET /openapi.yaml"                         // to anybody
	RouteAsyncAPI      = "GET /asyncapi.yaml"                        // to anybody
	RouteMetrics       = "GET /metrics"                              // text, for Prometheus; docs/metrics.md
	RouteStatus        = "GET /v1/status"                            // Status
	RouteStop          = "POST /v1/stop"                             // ends the daemon
	RouteRegister      = "POST /v1/agents"                           // Register → Registered
	RouteAgents        = "GET /v1/agents"                            // ?q= &capability= → Agents
	RouteAgent         = "GET /v1/agents/{name}"                     // Agent
	RouteUnregister    = "DELETE /v1/agents/{name}"                  // Agent
	RouteStandings     = "GET /v1/standings"                         // Agents: those who have one
	RouteSetStanding   = "PUT /v1/agents/{name}/standing"            // Standing → Agent; for the operator
	RouteMe            = "GET /v1/me"                                // Agent
	RouteInbox         = "GET /v1/me/inbox"                          // ?limit= → Inbox
	RouteRead          = "POST /v1/me/read"                          // Read → Messages
	RouteShown         = "POST /v1/me/seen"                          // Shown → 204
	RouteEvents        = "GET /v1/me/events"                         // ?conversation= &after= &from= &type= &request= &wait= &limit= → Messages
	RouteGetCurrent    = "GET /v1/me/current"                        // Current
	RouteSetCurrent    = "PUT /v1/me/current"                        // Current → Current
	RouteMessage       = "POST /v1/messages"                         // to agents → Posted
	RouteCreate        = "POST /v1/conversations"                    // Posted
	RouteConversations = "GET /v1/conversations"                     // ?status= &with= &limit= → Conversations
	RouteConversation  = "GET /v1/conversations/{ref}"               // Conversation
	RouteSend          = "POST /v1/conversations/{ref}/messages"     // Posted
	RouteTranscript    = "GET /v1/conversations/{ref}/messages"      // ?after= &before= &last= &limit= → lines of the log
	RouteExport        = "GET /v1/conversations/{ref}/export"        // ?format= → the conversation, as a download
	RouteView          = "GET /v1/conversations/{ref}/view"          // ?at= &after= &before= &limit= → View
	RouteInvite        = "POST /v1/conversations/{ref}/participants" // "to" invites, nothing joins → Posted
	RouteLeave         = "DELETE /v1/conversations/{ref}/participants/me"
	RouteClose         = "POST /v1/conversations/{ref}/close"   // Posted
	RouteReceipts      = "GET /v1/conversations/{ref}/receipts" // ?seq= &until= &wait= → Receipts
	RouteFind          = "GET /v1/refs/{ref}"                   // Found
	RouteCall          = "POST /v1/requests"                    // a draft of a call → Called
	RouteRequests      = "GET /v1/requests"                     // of the agent, still open; ?with= &limit= those of the past too → Requests
	RouteRequest       = "GET /v1/requests/{ref}"               // Request
	RouteAccept        = "POST /v1/requests/{ref}/accept"       // a draft → Called; - is the only one that fits
	RouteReject        = "POST /v1/requests/{ref}/reject"       // a draft with reason and busy → Called
	RouteCancel        = "POST /v1/requests/{ref}/cancel"       // Called
	RouteMatch         = "POST /v1/match"                       // Match → Matched
	RoutePresence      = "GET /v1/me/presence"                  // Presence
	RouteSetPresence   = "PUT /v1/me/presence"                  // Presence → Presence
	RouteTyping        = "POST /v1/conversations/{ref}/typing"  // Typing → 204
	RouteContacts      = "GET /v1/me/contacts"                  // Contacts
	RouteSetContact    = "POST /v1/me/contacts"                 // Contact → Contacts
	RouteAttach        = "POST /v1/attachments"                 // ?name=; the body is a file → Attachment
	RouteAttachment    = "GET /v1/attachments/{sha256}"         // ?message= → the file
	RouteSearch        = "GET /v1/search"                       // ?q= &from= &in= &since= &until= &limit= &cursor= → Hits
	RouteTalk          = "GET /v1/talk"                         // ?since= → Talk
	RouteSQL           = "POST /v1/sql"                         // SQL → Rows; for the operator
	RouteTokens        = "GET /v1/tokens"                       // Tokens; for the operator
	RouteNewToken      = "POST /v1/tokens"                      // NewToken → Token
	RouteRevokeToken   = "DELETE /v1/tokens/{id}"               // 204
	RouteNewLogin      = "POST /v1/session/codes"               // NewLogin → Login; for the operator
	RouteSignIn        = "POST /v1/session"                     // SignIn → SignedIn; to anybody with a code
	RouteSession       = "GET /v1/session"                      // Session
	RouteSignOut       = "DELETE /v1/session"                   // 204; the token is worth nothing then
	RoutePeers         = "GET /v1/peers"                        // Peers
	RoutePeer          = "GET /v1/peers/{name}"                 // Peer
	RouteJoinPeer      = "POST /v1/peers"                       // Join → Peer; for the operator, as all that follow
	RouteNewCode       = "POST /v1/peers/codes"                 // NewCode → PairingCode
	RouteChangePeer    = "PATCH /v1/peers/{name}"               // ChangePeer → Peer
	RouteRemovePeer    = "DELETE /v1/peers/{name}"              // Peer
	RoutePingPeer      = "POST /v1/peers/{name}/ping"           // Ping
	RouteRotateKey     = "POST /v1/key"                         // HostKey
	RouteStream        = "GET /v1/stream"                       // WebSocket; docs/stream.md
)
