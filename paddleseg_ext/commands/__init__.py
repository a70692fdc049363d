"""One file per verb: flags to typed options, a call of the library, an exit status."""
