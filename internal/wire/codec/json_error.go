package codec

// AppendJSONError appends an error's body: __type unless typ is empty, and the
// members of exception, an SDK exception, or else the message alone.
func (c *Codec) AppendJSONError(dst []byte, typ, message string, exception any) []byte {
	dst = append(dst, '{')
	if typ != "" {
		dst = append(dst, `"__type":`...)
		dst = append(appendJSONString(dst, typ), ',')
	}
	if exception != nil {
		if b, err := c.AppendJSONMembers(dst, exception); err == nil {
			return closeJSON(b, '}')
		}
	}
	dst = append(dst, `"message":`...)
	return append(appendJSONString(dst, message), '}')
}
