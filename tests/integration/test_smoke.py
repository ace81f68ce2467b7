def test_it(service, service_simulator):
    import time
    for i in range(5):
        t=time.time()
        r = service.post("/txt2img", {"prompt": "a", "width": 64, "height": 64, "steps": 1})
        print(time.time()-t, r.status_code, r.json().keys())
    assert r.status_code == 200
def test_inproc(client):
    import time
    for i in range(5):
        t=time.time()
        r = client.post("/api/v1/ai/generation/txt2img", json={"prompt": "a", "width": 64, "height": 64, "steps": 1})
        print(time.time()-t, r.status_code, r.json.keys())
    assert r.status_code == 200
