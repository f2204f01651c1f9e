package sched

// list is a doubly linked list whose links are kept by its users, so that an
// object can leave it at once and can be in several lists.
type list[T any] struct {
	head, tail *elem[T]
}

type elem[T any] struct {
	prev, next *elem[T]
	in         *list[T]
	v          T
}

// insertBefore links e in front of at; at == nil appends.
func (l *list[T]) insertBefore(e, at *elem[T]) {
	e.in, e.next = l, at
	if at == nil {
		e.prev, l.tail = l.tail, e
	} else {
		e.prev, at.prev = at.prev, e
	}
	if e.prev == nil {
		l.head = e
	} else {
		e.prev.next = e
	}
}

func (l *list[T]) pushBack(e *elem[T]) { l.insertBefore(e, nil) }

// remove unlinks e; it does nothing when e is in no list.
func (e *elem[T]) remove() {
	l := e.in
	if l == nil {
		return
	}
	if e.prev == nil {
		l.head = e.next
	} else {
		e.prev.next = e.next
	}
	if e.next == nil {
		l.tail = e.prev
	} else {
		e.next.prev = e.prev
	}
	e.prev, e.next, e.in = nil, nil, nil
}
