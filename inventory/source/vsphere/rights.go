package vsphere

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"unbrick/inventory"
)

// A Need is what somebody wants to be allowed to do to one object.
type Need struct {
	On         types.ManagedObjectReference
	Name       string   // of the object, for people
	Privileges []string // by VMware's names
}

// Granted makes sure that the account has all privileges that are needed, without using one. Where
// it lacks some, the error is an *inventory.RightError that names them, and on which objects.
func (c *Conn) Granted(ctx context.Context, needs ...Need) error {
	client, err := c.Client(ctx)
	if err != nil {
		return err
	}
	session, err := sessionOf(ctx, client)
	if err != nil {
		return fmt.Errorf("cannot ask %s who we are: %w", c.Host(), err)
	}
	var lacks []string
	for _, n := range needs {
		res, err := methods.HasPrivilegeOnEntity(ctx, client, &types.HasPrivilegeOnEntity{
			This: *client.ServiceContent.AuthorizationManager, Entity: n.On, SessionId: session.Key, PrivId: n.Privileges})
		if err != nil {
			return fmt.Errorf("cannot ask %s for our privileges on %s: %w", c.Host(), n.Name, err)
		}
		var some []string
		for i, has := range res.Returnval {
			if !has {
				some = append(some, n.Privileges[i])
			}
		}
		if len(some) > 0 {
			lacks = append(lacks, strings.Join(some, ", ")+" on "+n.Name)
		}
	}
	if len(lacks) == 0 {
		return nil
	}
	return &inventory.RightError{Right: strings.Join(lacks, "; "),
		Where: fmt.Sprintf("a role with these privileges for %s, there or above it, with propagation to children (govc permissions.set)", session.UserName)}
}

// sessionOf returns the session that a client is in.
func sessionOf(ctx context.Context, c *vim25.Client) (*types.UserSession, error) {
	res, err := methods.RetrievePropertiesEx(ctx, c, &types.RetrievePropertiesEx{This: c.ServiceContent.PropertyCollector, SpecSet: []types.PropertyFilterSpec{{
		ObjectSet: []types.ObjectSpec{{Obj: *c.ServiceContent.SessionManager}},
		PropSet:   []types.PropertySpec{{Type: "SessionManager", PathSet: []string{"currentSession"}}},
	}}})
	var m mo.SessionManager
	if err == nil && res.Returnval != nil {
		err = mo.LoadObjectContent(res.Returnval.Objects, &m)
	}
	if err == nil && m.CurrentSession == nil {
		err = errors.New("it does not know of our session")
	}
	return m.CurrentSession, err
}
