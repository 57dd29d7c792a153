"""One exchange: a request carried to its backend and the answer brought back, under one cancel scope.

The life of a request, and the numbers that the code carries:

1. *The tree.* One scope holds everything the exchange does. Its deadline is the exchange's clock and moves with whom
   the exchange waits for. The client's leaving, a clock and the drain all end it in the same way: the failure is
   noted, the scope is cancelled, nothing is left.
2. *The request's body.* None; or one piece, which travels with the head in one write; or a stream, which is then
   carried by a task of its own, so that the answer may come before it ends.
3. *The backend's head.* The transport connects, sends, and returns with the head of the final answer.
4. *The answer.* Passed on as it comes, one piece at a time: what the client has not taken is not read.
5. *The end.* The last piece, or trailers. What ends otherwise is never ended cleanly towards the client.

The server tells of a client that left through the ``http.disconnect`` extension; then most requests need no task and
no nursery. On a server without it, a task watches ``receive()``.

Failures are raised as ``GatewayError``; whoever called makes the answer of it, or cuts the one that has begun. Foreign
exceptions are translated here, by a table.

| module | duty |
|---|---|
| ``exchange`` | one request and what has become of it so far |
| ``tree`` | the scope of an exchange and the steps in it |
| ``body`` | the request's body, pulled from the client |
| ``carriers`` | the way to a transport, ours or any other one of httpx |
| ``translation`` | what a transport raised, in our own words |
"""

from gateway.forward.exchange import Exchange, Message, Receive, Scope, Send, Upstream
from gateway.forward.tree import forward

__all__ = ["Exchange", "Message", "Receive", "Scope", "Send", "Upstream", "forward"]
