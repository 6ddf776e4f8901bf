"""What the service remembers: drafts, reviews, keys, sessions, CDS cards, and an audit trail that shows tampering."""
