package mcpserver

import "github.com/modelcontextprotocol/go-sdk/mcp"

func (s *server) addResources(m *mcp.Server, observer bool) {}
