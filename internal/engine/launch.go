package engine

import "context"

// Launch is what a driver's Launch does that has no faster way.
func Launch(ctx context.Context, e Engine, spec Spec, sockets ...Socket) (id ID, opened []Listening, err error) {
	if id, err = e.Create(ctx, spec); err != nil {
		return "", nil, err
	}
	if len(sockets) > 0 {
		opened, err = e.ListenAll(ctx, id, sockets...)
	}
	if err == nil {
		err = e.Start(ctx, id)
	}
	if err != nil {
		_ = e.Remove(context.WithoutCancel(ctx), id) // the first error says more
		return "", nil, err
	}
	return id, opened, nil
}
