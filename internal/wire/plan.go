package wire

type planCache struct{}
type routerCache struct{}
