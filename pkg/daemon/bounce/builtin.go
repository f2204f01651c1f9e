package bounce

// The built-in templates, word for word those that mail software and people know
// (routing.md §5.4).
var builtins = [...]template{
	{
		class: "failure", origin: builtIn, charset: "us-ascii",
		subject:    "Undelivered Mail Returned to Sender",
		postmaster: "Postmaster Copy: Undelivered Mail",
		text: []string{
			"This is the mail system at host $myhostname.",
			"",
			"I'm sorry to have to inform you that your message could not",
			"be delivered to one or more recipients. It's attached below.",
			"",
			"For further assistance, please send mail to postmaster.",
			"",
			"If you do so, please include this problem report. You can",
			"delete your own text from the attached returned message.",
			"",
			"                   The mail system",
		},
	},
	{
		class: "delay", origin: builtIn, charset: "us-ascii",
		subject:    "Delayed Mail (still being retried)",
		postmaster: "Postmaster Warning: Delayed Mail",
		text: []string{
			"This is the mail system at host $myhostname.",
			"",
			"####################################################################",
			"# THIS IS A WARNING ONLY.  YOU DO NOT NEED TO RESEND YOUR MESSAGE. #",
			"####################################################################",
			"",
			"Your message could not be delivered for more than $delay_warning_time_hours hour(s).",
			"It will be retried until it is $maximal_queue_lifetime_days day(s) old.",
			"",
			"For further assistance, please send mail to postmaster.",
			"",
			"If you do so, please include this problem report. You can",
			"delete your own text from the attached returned message.",
			"",
			"                   The mail system",
		},
	},
	{
		class: "success", origin: builtIn, charset: "us-ascii",
		subject: "Successful Mail Delivery Report",
		text: []string{
			"This is the mail system at host $myhostname.",
			"",
			"Your message was successfully delivered to the destination(s)",
			"listed below. If the message was delivered to mailbox you will",
			"receive no further notifications. Otherwise you may still receive",
			"notifications of mail delivery errors from other systems.",
			"",
			"                   The mail system",
		},
	},
	{
		class: "verify", origin: builtIn, charset: "us-ascii",
		subject: "Mail Delivery Status Report",
		text: []string{
			"This is the mail system at host $myhostname.",
			"",
			"Enclosed is the mail delivery report that you requested.",
			"",
			"                   The mail system",
		},
	},
}
