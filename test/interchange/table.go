package interchange

func writeExchange(list []cell, verdicts []verdict) error { return nil }
