import json


def handle(event, context):
    """Say hello to whoever the body or ?name= names."""
    name = event.body.decode() or event.query.get("name", "world")
    return {
        "statusCode": 200,
        "body": json.dumps({"hello": name}),
        "headers": {"Content-Type": "application/json"},
    }
