package main

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"longshore.dev/longshore/internal/control"
)

// keyCommand is about the root key, at this machine's running server.
type keyCommand struct {
	Status keyStatus `cmd:"" help:"Show which root keys there are, and what is sealed by them."`
	Rotate keyRotate `cmd:"" help:"Replace the root key, and seal everything with the new one."`
}

type keyStatus struct{ ownerFlags }

// Run shows the keys.
func (k *keyStatus) Run(ctx context.Context, c *console) error {
	client, _, err := administer(k.ownerFlags)
	if err != nil {
		return err
	}
	info, err := client.Key(ctx)
	if err != nil {
		return err
	}
	showKey(c, info)
	return nil
}

type keyRotate struct{ ownerFlags }

// Run rotates the key.
func (k *keyRotate) Run(ctx context.Context, c *console) error {
	client, _, err := administer(k.ownerFlags)
	if err != nil {
		return err
	}
	before, err := client.Key(ctx)
	if err != nil {
		return err
	}
	info, err := client.RotateKey(ctx)
	if err != nil {
		return err
	}
	c.say("%d secrets are sealed by the new root key %s.", info.Resealed, info.Keys[0])
	c.say("The former key %s goes from %s within minutes. Backups that were made with it need it:", before.Keys[0], info.Where)
	c.say("keep a copy of it as long as you keep them, and copy the new key to where you keep such copies.")
	return nil
}

func showKey(c *console, info control.KeyInfo) {
	c.say("Root key  %s, at %s", info.Keys[0], info.Where)
	for _, id := range info.Keys[1:] {
		c.say("          %s, which a rotation is replacing", id)
	}
	for _, id := range slices.Sorted(maps.Keys(info.Sealed)) {
		missing := ""
		if !slices.Contains(info.Keys, id) {
			missing = ", WHICH IS NOT THERE: these are lost until it is back"
		}
		c.say("")
		c.say("Sealed by %s%s", id, missing)
		for _, kind := range slices.Sorted(maps.Keys(info.Sealed[id])) {
			c.say("%9s %s", fmt.Sprint(info.Sealed[id][kind]), kind)
		}
	}
}
