package azure

import (
	"context"
	"net/url"
	"strings"
)

// permissionsVersion is that of the API that tells what a caller may do.
const permissionsVersion = "2022-04-01"

// A Permission is what one role gives, with * for anything.
type Permission struct {
	Actions    []string `json:"actions"`
	NotActions []string `json:"notActions"`
}

// Permissions are what the account may do at a scope.
type Permissions []Permission

// Permissions asks what the account may do at a scope: a resource group, or a resource
// ("Permissions - List For Resource Group", "- List For Resource"). To ask takes the right
// Microsoft.Authorization/permissions/read, which Reader has.
func (c *Client) Permissions(ctx context.Context, scope string) (Permissions, error) {
	return List[Permission](ctx, c, scope+"/providers/Microsoft.Authorization/permissions", url.Values{"api-version": {permissionsVersion}})
}

// Allow says whether one of the roles has an action. What a role takes off itself another may give
// ("Understand Azure role definitions").
func (p Permissions) Allow(action string) bool {
	for _, role := range p {
		if fits(role.Actions, action) && !fits(role.NotActions, action) {
			return true
		}
	}
	return false
}

// fits says whether one of the patterns fits an action.
func fits(patterns []string, action string) bool {
	for _, p := range patterns {
		if fit(strings.ToLower(p), strings.ToLower(action)) {
			return true
		}
	}
	return false
}

func fit(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == text
	}
	text, ok := strings.CutPrefix(text, parts[0])
	if !ok {
		return false
	}
	for _, part := range parts[1 : len(parts)-1] {
		_, after, found := strings.Cut(text, part)
		if !found {
			return false
		}
		text = after
	}
	return strings.HasSuffix(text, parts[len(parts)-1])
}
