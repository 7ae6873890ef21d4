package wire

// budget bounds the memory that a body may take up once it is decoded. Without
// it, a list of empty objects grows a hundredfold: three bytes a piece on the
// wire, hundreds in memory.
type budget int

// growth is how many times its own size a body may grow, beyond a megabyte.
const growth = 32

func newBudget(body int) budget { return budget(1<<20 + growth*body) }

// charge takes the size of a value, in bytes, off the budget.
func (b *budget) charge(size uintptr) error {
	*b -= budget(size)
	if *b < 0 {
		return errSerialization("The request body has too many elements")
	}
	return nil
}
