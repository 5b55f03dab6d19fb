package cmdline

// Fail makes an error one that ends the program with the code of a failure, 125, and says
// no more: for the actions of a program's own subcommands. Other errors that they return
// are taken for wrong usage, and refer to the help.
func Fail(err error) error {
	if err == nil {
		return nil
	}
	return fail(err)
}
