"""The folder that an audit leaves: reader, writer, schema, exports."""
